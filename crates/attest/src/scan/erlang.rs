//! Erlang and Elixir: `mix.lock`, `rebar.lock`, and the `NAME.app` of what is compiled, as in
//! every release.

use super::{Context, Found, text};
use crate::{Kind, Package};

/// `"name": {:hex, :name, "1.2.3", "hash", …},` on each line.
pub fn read_mix(_: &Context<'_>, bytes: &[u8]) -> Found {
    let packages = text(bytes)?.lines().filter_map(|line| {
        let (_, rest) = line.split_once("{:hex,")?;
        let mut words = rest.split(',').map(str::trim);
        let name = words.next()?.trim_start_matches(':').trim_matches('"');
        let version = words.next()?.trim_matches('"');
        Some(Package::new(Kind::Hex, name, version))
    });
    Ok(packages.collect())
}

/// `{<<"name">>,{pkg,<<"name">>,<<"1.2.3">>},0}`, over lines as it comes.
pub fn read_rebar(_: &Context<'_>, bytes: &[u8]) -> Found {
    let text: String = text(bytes)?.split_whitespace().collect();
    let packages = text.split("{pkg,").skip(1).filter_map(|rest| {
        let mut strings = rest.split("<<\"").skip(1).filter_map(|s| s.split("\">>").next());
        Some(Package::new(Kind::Hex, strings.next()?, strings.next()?))
    });
    Ok(packages.collect())
}

/// `{application, name, [ …, {vsn, "1.2.3"}, …]}.`
pub fn read_app(context: &Context<'_>, bytes: &[u8]) -> Found {
    let name = context.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    let version = text.split("{vsn").nth(1).and_then(|rest| rest.split('"').nth(1));
    let Some(version) = version else { return Err("it has no vsn".into()) };
    Ok(vec![Package::new(Kind::Hex, name, version)])
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn lock_files_of_mix_and_rebar_are_read() {
        let mix = "%{\n  \"plug\": {:hex, :plug, \"1.15.0\", \"aa\", [:mix], [], \"hexpm\", \"bb\"},\n  \
            \"own\": {:git, \"https://example.org/x\", \"cc\", []},\n}\n";
        assert_eq!(purls("mix.lock", mix), ["pkg:hex/plug@1.15.0"]);
        let rebar = "{\"1.2.0\",\n[{<<\"cowboy\">>,{pkg,<<\"cowboy\">>,<<\"2.10.0\">>},0},\n \
            {<<\"ranch\">>,\n  {pkg,<<\"ranch\">>,<<\"1.8.0\">>},1}]}.\n";
        assert_eq!(purls("rebar.lock", rebar), ["pkg:hex/cowboy@2.10.0", "pkg:hex/ranch@1.8.0"]);
    }

    #[test]
    fn applications_of_a_release_are_found() {
        let app = "{application, stdlib,\n [{description, \"ERTS\"},\n  {vsn, \"4.2\"},\n  {modules, []}]}.";
        assert_eq!(purls("app/lib/stdlib-4.2/ebin/stdlib.app", app), ["pkg:hex/stdlib@4.2"]);
    }
}
