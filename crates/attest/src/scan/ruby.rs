//! `Gemfile.lock`: in `specs:`, four spaces before what is locked, six before what that needs.

use super::{Context, Found, text};
use crate::{Kind, Package};

pub fn read(_: &Context<'_>, bytes: &[u8]) -> Found {
    let mut packages = Vec::new();
    let mut inside = false;
    for line in text(bytes)?.lines() {
        match line.trim_end() {
            "  specs:" => inside = true,
            line if !line.starts_with("    ") => inside = false,
            line if inside && !line.starts_with("     ") => {
                let Some((name, version)) = line.trim().split_once(' ') else { continue };
                let version = version.trim_matches(['(', ')']);
                packages.push(Package::new(Kind::Gem, name, version));
            }
            _ => {}
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use crate::scan::tests::purls;

    #[test]
    fn what_is_locked_counts_and_not_what_it_needs() {
        let text = "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.0.8)\n    \
            sinatra (4.0.0)\n      rack (>= 3.0.0)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  sinatra\n";
        assert_eq!(purls("Gemfile.lock", text), ["pkg:gem/rack@3.0.8", "pkg:gem/sinatra@4.0.0"]);
    }
}
