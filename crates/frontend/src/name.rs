//! What steps are called: `[build 2/3] RUN make`.

use koskit_dockerfile::Environment;
use koskit_llb::Platform;

use crate::variables::Variables;

/// Numbers the steps of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    stage: String,
    /// Shown where a build is for several platforms.
    platform: Option<Platform>,
    total: usize,
    next: usize,
}

impl Names {
    /// For a stage with so many steps. A stage without a name is the only one of its file.
    pub fn new(stage: String, platform: Option<Platform>, total: usize) -> Self {
        Self { stage, platform, total, next: 1 }
    }

    /// There are more steps than were known at first.
    pub fn grow(&mut self, steps: usize) {
        self.total += steps;
    }

    /// The name of the next step.
    pub fn next(&mut self, text: &str, variables: &Variables) -> String {
        let name = self.same(text, variables);
        self.next += 1;
        name
    }

    /// The name of the next step, which has another part that is called so.
    pub fn same(&self, text: &str, variables: &Variables) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        let platform = self.platform.as_ref().map_or(String::new(), |platform| {
            format!("{}{} ", full(platform), cross(platform, variables))
        });
        let space = if self.stage.is_empty() { "" } else { " " };
        let width = self.total.to_string().len();
        let (stage, total) = (&self.stage, self.total);
        format!("[{platform}{stage}{space}{:width$}/{total}] {text}", self.next)
    }
}

/// With the version of the system, if there is one.
fn full(platform: &Platform) -> String {
    match platform.os_version.as_str() {
        "" => platform.to_string(),
        version => {
            platform.to_string().replacen(&platform.os, &format!("{}({version})", platform.os), 1)
        }
    }
}

/// `->arm64` where a step on one platform makes something for another, as far as its
/// variables tell.
fn cross(base: &Platform, variables: &Variables) -> String {
    let get = |name: &str| variables.get(name);
    let target = match get("TARGETPLATFORM").and_then(|text| text.parse::<Platform>().ok()) {
        Some(target) => target,
        None => {
            let parts = ["TARGETOS", "TARGETARCH", "TARGETVARIANT"].map(get);
            if parts == [None; 3] {
                return String::new();
            }
            let or = |part: Option<&str>, other: &str| match part {
                None | Some("") => other.to_owned(),
                Some(part) => part.to_owned(),
            };
            let [os, architecture, variant] = parts;
            Platform::new(
                &or(os, &base.os),
                &or(architecture, &base.architecture),
                variant.unwrap_or_default(),
            )
        }
    };
    if target.os != base.os {
        return format!("->{}", full(&target));
    }
    if target.architecture == base.architecture {
        return String::new();
    }
    let slash = if target.variant.is_empty() { "" } else { "/" };
    format!("->{}{slash}{}", target.architecture, target.variant)
}

/// The first word in capitals.
pub(crate) fn uppercase(text: &str) -> String {
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_wide_as_the_largest() {
        let none = Variables::default();
        let mut names = Names::new("build".into(), None, 10);
        assert_eq!(names.same("LINK a", &none), "[build  1/10] LINK a");
        assert_eq!(names.next(&uppercase("run make"), &none), "[build  1/10] RUN make");
        assert_eq!(names.next("x", &none), "[build  2/10] x");
        assert_eq!(Names::new(String::new(), None, 3).next("COPY a b", &none), "[1/3] COPY a b");
        assert_eq!(Names::new("x".into(), None, 0).next("FROM a", &none), "FROM a");
    }

    #[test]
    fn where_there_are_several_platforms_each_step_tells_its_own() {
        let mut variables = Variables::default();
        let amd64 = Platform::new("linux", "amd64", "");
        let names = Names::new("a".into(), Some(amd64), 2);
        assert_eq!(names.same("x", &variables), "[linux/amd64 a 1/2] x");
        variables.set("TARGETARCH", "arm");
        variables.set("TARGETVARIANT", "v6");
        assert_eq!(names.same("x", &variables), "[linux/amd64->arm/v6 a 1/2] x");
        variables.set("TARGETPLATFORM", "linux/arm64");
        assert_eq!(names.same("x", &variables), "[linux/amd64->arm64 a 1/2] x");
        variables.set("TARGETPLATFORM", "windows/amd64");
        assert_eq!(names.same("x", &variables), "[linux/amd64->windows/amd64 a 1/2] x");
    }
}
