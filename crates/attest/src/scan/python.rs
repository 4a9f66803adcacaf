//! What pip has installed (`*.dist-info/METADATA`), and lock files of poetry, uv, pdm, pipenv
//! and pip. Names are normalised as PEP 503 says.

use super::{Context, Found, fields, text};
use crate::{Kind, Package};
use serde::Deserialize;

fn named(name: &str, version: &str) -> Package {
    let mut normal = String::new();
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            c => normal.extend(c.to_lowercase()),
        }
    }
    Package::new(Kind::Pypi, normal, version)
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    version: String,
}

pub fn read_toml(_: &Context<'_>, bytes: &[u8]) -> Found {
    let lock: Lock = toml::from_str(text(bytes)?).map_err(|e| e.message().to_owned())?;
    Ok(lock.package.iter().map(|locked| named(&locked.name, &locked.version)).collect())
}

pub fn read_pipfile(_: &Context<'_>, bytes: &[u8]) -> Found {
    let lock: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let sections = ["default", "develop"].iter().filter_map(|name| lock[*name].as_object());
    let packages = sections.flatten().map(|(name, locked)| {
        let version = locked["version"].as_str().unwrap_or_default();
        named(name, version.trim_start_matches("=="))
    });
    Ok(packages.collect())
}

/// Only lines that fix a version tell what is there: `name[extra]==1.2.3 ; marker --hash=…`.
pub fn read_requirements(_: &Context<'_>, bytes: &[u8]) -> Found {
    let packages = text(bytes)?.lines().filter_map(|line| {
        let line = line.split(['#', ';', '\\']).next()?.split(" --").next()?.trim();
        let (name, version) = line.split_once("==")?;
        let name = name.split('[').next()?.trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let version = version.trim_start_matches('=').trim();
        let is_name = !name.is_empty() && name.chars().all(plain);
        (is_name && !version.contains('*')).then(|| named(name, version))
    });
    Ok(packages.collect())
}

/// Headers, then a long description.
pub fn read_metadata(_: &Context<'_>, bytes: &[u8]) -> Found {
    let text = String::from_utf8_lossy(bytes);
    let headers = text.split("\n\n").next().unwrap_or_default();
    let field = |wanted: &str| {
        let found = fields(headers).find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    };
    let Some(name) = field("Name") else { return Err("it has no field Name".into()) };
    let mut package = named(name, field("Version").unwrap_or_default());
    package.license = field("License-Expression").or_else(|| field("License")).map(Into::into);
    Ok(vec![package])
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn what_pip_has_installed_is_found() {
        let path = "usr/lib/python3/dist-packages/Flask_SQL-3.0.dist-info/METADATA";
        let text =
            "Metadata-Version: 2.1\nName: Flask_SQL\nVersion: 3.0\nLicense: BSD\n\nName: no\n";
        assert_eq!(purls(path, text), ["pkg:pypi/flask-sql@3.0"]);
    }

    #[test]
    fn lock_files_are_read() {
        let poetry = "[[package]]\nname = \"Jinja2\"\nversion = \"3.1\"\n[metadata]\nx = \"y\"\n";
        assert_eq!(purls("poetry.lock", poetry), ["pkg:pypi/jinja2@3.1"]);
        let pipfile = r#"{"default": {"a.b": {"version": "==1.0"}}, "develop": {}}"#;
        assert_eq!(purls("Pipfile.lock", pipfile), ["pkg:pypi/a-b@1.0"]);
    }

    #[test]
    fn of_requirements_those_with_a_version_count() {
        let text = "-r other.txt\n# a==1\nflask>=2\nrequests[socks]==2.31.0 ; python_version > '3'\n\
            idna==3.6 --hash=sha256:0\nx==1.*\n";
        let expected = ["pkg:pypi/idna@3.6", "pkg:pypi/requests@2.31.0"];
        assert_eq!(purls("app/requirements.txt", text), expected);
    }
}
