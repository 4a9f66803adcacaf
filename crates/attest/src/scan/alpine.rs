//! apk's database: <https://wiki.alpinelinux.org/wiki/Apk_spec>

use super::{Context, Found, text};
use crate::{Kind, Package};

pub fn read(context: &Context<'_>, bytes: &[u8]) -> Found {
    let packages = text(bytes)?.split("\n\n").filter_map(|paragraph| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let name = field("P").filter(|name| !name.is_empty())?;
        let mut package = Package::new(Kind::Apk, name, field("V").unwrap_or_default())
            .within(context.release.id_or("alpine"))
            .with("arch", field("A").unwrap_or_default())
            .with("distro", &context.release.distro());
        package.license = field("L").map(Into::into);
        Some(package)
    });
    Ok(packages.collect())
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn packages_are_paragraphs_of_one_letter_fields() {
        let installed = "C:Q1x=\nP:musl\nV:1.2.5-r0\nA:aarch64\nL:MIT\nF:lib\nR:ld-musl.so\n\n\
            P:busybox\nV:1.36.1-r29\nA:aarch64\nL:GPL-2.0-only\n\n";
        assert_eq!(
            purls("lib/apk/db/installed", installed),
            [
                "pkg:apk/alpine/busybox@1.36.1-r29?arch=aarch64",
                "pkg:apk/alpine/musl@1.2.5-r0?arch=aarch64"
            ]
        );
    }
}
