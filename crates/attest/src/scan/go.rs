//! `go.mod`: <https://go.dev/ref/mod#go-mod-file>. `go.sum` names more than is used.

use super::{Context, Found, text};
use crate::{Kind, Package};

pub fn read_mod(_: &Context<'_>, bytes: &[u8]) -> Found {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text(bytes)?.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let required = match line {
            ")" => {
                inside = false;
                continue;
            }
            "require (" => {
                inside = true;
                continue;
            }
            _ if inside => Some(line),
            _ => line.strip_prefix("require "),
        };
        let mut words = required.unwrap_or_default().split_whitespace();
        let (Some(path), Some(version)) = (words.next(), words.next()) else { continue };
        let path = path.trim_matches('"');
        packages.push(match path.rsplit_once('/') {
            Some((space, name)) => Package::new(Kind::Golang, name, version).within(space),
            None => Package::new(Kind::Golang, path, version),
        });
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn requirements_stand_alone_or_in_brackets() {
        let text = "module example.org/own\n\ngo 1.22\n\nrequire golang.org/x/sys v0.1.0\nrequire (\n\
            \tgithub.com/a/b/v2 v2.3.4 // indirect\n)\nreplace x => y v1.0.0\n";
        assert_eq!(
            purls("src/go.mod", text),
            ["pkg:golang/github.com/a/b/v2@v2.3.4", "pkg:golang/golang.org/x/sys@v0.1.0"]
        );
    }
}
