//! dpkg's database: deb-control(5), dpkg(1). `status.d` has a file for each package, as images
//! without dpkg itself have it.

use super::{Context, Found, fields, text};
use crate::{Kind, Package};

pub fn read(context: &Context<'_>, bytes: &[u8]) -> Found {
    // Old databases have names of maintainers in other encodings.
    let text = text(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Into::into);
    let packages = text.split("\n\n").filter_map(|paragraph| {
        let (mut name, mut version, mut architecture, mut source) = ("", "", "", "");
        let mut installed = true;
        for (field, value) in fields(paragraph) {
            match field {
                "Package" => name = value,
                "Version" => version = value,
                "Architecture" => architecture = value,
                "Source" => source = value,
                "Status" => installed = value.ends_with(" installed"),
                _ => {}
            }
        }
        // `Source: gcc-12 (12.2.0-14)` where its version is another.
        let upstream = source.replace(" (", "@").replace(')', "");
        (installed && !name.is_empty()).then(|| {
            Package::new(Kind::Deb, name, version)
                .within(context.release.id_or("debian"))
                .with("arch", architecture)
                .with("distro", &context.release.distro())
                .with("upstream", &upstream)
        })
    });
    Ok(packages.collect())
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn installed_packages_are_found_and_removed_ones_are_not() {
        let status = "Package: libc6\nStatus: install ok installed\nArchitecture: arm64\n\
            Source: glibc (2.36-9)\nVersion: 2.36-9+deb12u9\nDescription: a\n Package: no\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(
            purls("var/lib/dpkg/status", status),
            ["pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=arm64&upstream=glibc%402.36-9"]
        );
        let one = "Package: busybox-static\nVersion: 1:1.35.0-4\n";
        assert_eq!(
            purls("var/lib/dpkg/status.d/busybox-static", one),
            ["pkg:deb/debian/busybox-static@1:1.35.0-4"]
        );
    }
}
