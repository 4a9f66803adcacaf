//! What BuildKit tells of a build: `BUILDKIT_FRONTEND_OPT_0="key=value"` and so on, and the
//! session whose files are meant. The keys are those of BuildKit's own frontend.

use std::collections::{BTreeMap, HashMap};
use std::env;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::CacheOptionsEntry;
use koskit_llb::{Platform, ResolveMode, pb};
use serde::Deserialize;

use super::{Failure, Result};

/// What was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    options: BTreeMap<String, String>,
    /// Whose files `local://` sources are.
    pub session: String,
}

/// Who writes a bill of materials, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sbom {
    /// An image; by default that of this frontend.
    pub generator: Option<String>,
    /// Whether it is this frontend's.
    pub is_own: bool,
    /// What it is told besides.
    pub parameters: BTreeMap<String, String>,
}

impl Given {
    /// What this process was started with; `None` if it was not started by BuildKit.
    pub fn of_environment() -> Option<Self> {
        let session = env::var("BUILDKIT_SESSION_ID").ok()?;
        let options = env::vars().filter(|(name, _)| name.starts_with("BUILDKIT_FRONTEND_OPT_"));
        Some(Self::new(options.map(|(_, value)| value), session))
    }

    fn new(options: impl Iterator<Item = String>, session: String) -> Self {
        let pair = |text: String| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        Self { options: options.map(pair).collect(), session }
    }

    /// One option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// The same, unless it is empty.
    fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// All options whose key begins so, without that beginning.
    pub fn all(&self, beginning: &str) -> BTreeMap<String, String> {
        let pairs = self.options.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(beginning)?.to_owned(), value.clone()))
        });
        pairs.collect()
    }

    /// Whose folder of that name is meant.
    pub fn session_of(&self, local: &str) -> String {
        self.get(&format!("local-sessionid:{local}")).unwrap_or(&self.session).to_owned()
    }

    /// What the images are for, the first of each; by default what koskit builds for.
    pub fn platforms(&self) -> Result<Vec<Platform>> {
        let Some(text) = self.filled("platform") else {
            return Ok(vec![koskit_transform::target()]);
        };
        let mut platforms: Vec<Platform> = Vec::new();
        for text in text.split(',') {
            let platform = text.trim().parse::<Platform>();
            let platform = platform.map_err(|error| Failure::Option(error.to_string()))?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        Ok(platforms)
    }

    /// Whether the result is an index, even of one image.
    pub fn is_index(&self, platforms: usize) -> Result<bool> {
        let option = self.filled("build-arg:BUILDKIT_MULTI_PLATFORM");
        let Some(text) = option.or_else(|| self.filled("multi-platform")) else {
            return Ok(platforms > 1);
        };
        match text {
            "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
            "0" | "false" | "False" | "FALSE" | "f" | "F" if platforms <= 1 => Ok(false),
            "0" | "false" | "False" | "FALSE" | "f" | "F" => Err(Failure::Option(
                "multi-platform=false does not go together with several platforms".into(),
            )),
            _ => Err(bad("multi-platform", text, "true or false")),
        }
    }

    /// Caches to begin with.
    pub fn caches(&self) -> Result<Vec<CacheOptionsEntry>> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "Type")]
            kind: String,
            #[serde(default, rename = "Attrs")]
            attributes: Option<HashMap<String, String>>,
        }
        let mut caches = Vec::new();
        if let Some(text) = self.filled("cache-imports") {
            let entries: Vec<Entry> = serde_json::from_str(text)
                .map_err(|_| bad("cache-imports", text, "a JSON list of caches"))?;
            caches.extend(entries.into_iter().map(|entry| CacheOptionsEntry {
                r#type: entry.kind,
                attrs: entry.attributes.unwrap_or_default(),
            }));
        }
        let names = self.filled("cache-from").into_iter().flat_map(|names| names.split(','));
        caches.extend(names.map(|name| CacheOptionsEntry {
            r#type: "registry".into(),
            attrs: HashMap::from([("ref".into(), name.into())]),
        }));
        Ok(caches)
    }

    /// What is asked for as a bill of materials.
    pub fn sbom(&self) -> Option<Sbom> {
        let asked =
            self.get("attest:sbom").or_else(|| self.get("build-arg:BUILDKIT_ATTEST_SBOM"))?;
        let fields = asked.split(',').filter(|field| !field.is_empty());
        let pair = |field: &str| match field.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (field.to_owned(), String::new()),
        };
        let mut parameters: BTreeMap<String, String> = fields.map(pair).collect();
        let named = parameters.remove("generator").filter(|name| !name.is_empty());
        let own = self.filled("source").map(str::to_owned);
        let is_own = named.is_none() || named == own;
        Some(Sbom { generator: named.or(own), is_own, parameters })
    }

    /// All that has a counterpart of ours, for one platform. The contexts are not read yet.
    pub fn frontend(
        &self,
        build: &Platform,
        target: &Platform,
    ) -> Result<koskit_frontend::Options> {
        let (no_cache, no_cache_filter) = match self.get("no-cache") {
            None => (false, Vec::new()),
            Some("") => (true, Vec::new()),
            Some(stages) => (false, stages.split(',').map(str::to_owned).collect()),
        };
        let shm_size = match self.filled("shm-size") {
            Some(text) => text.parse().map_err(|_| bad("shm-size", text, "a number of bytes"))?,
            None => 0,
        };
        Ok(koskit_frontend::Options {
            target: self.filled("target").map(str::to_owned),
            build_args: self.all("build-arg:"),
            target_platform: target.clone(),
            build_platform: build.clone(),
            labels: self.all("label:"),
            context_subdir: self.filled("contextsubdir").map(str::to_owned),
            no_cache,
            no_cache_filter,
            resolve: self.resolve()?,
            network: self.network()?,
            hostname: self.filled("hostname").unwrap_or_default().to_owned(),
            extra_hosts: self.hosts()?,
            shm_size,
            ulimits: self.ulimits()?,
            cgroup_parent: self.filled("cgroup-parent").unwrap_or_default().to_owned(),
            session: Some(self.session_of("context")),
            ..koskit_frontend::Options::default()
        })
    }

    fn resolve(&self) -> Result<ResolveMode> {
        match self.filled("image-resolve-mode") {
            None | Some("default") => Ok(ResolveMode::Default),
            Some("pull") => Ok(ResolveMode::Pull),
            Some("local") => Ok(ResolveMode::Local),
            Some(other) => Err(bad("image-resolve-mode", other, "default, pull or local")),
        }
    }

    fn network(&self) -> Result<pb::NetMode> {
        match self.filled("force-network-mode") {
            None | Some("default" | "sandbox") => Ok(pb::NetMode::Unset),
            Some("none") => Ok(pb::NetMode::None),
            Some("host") => Ok(pb::NetMode::Host),
            Some(other) => Err(bad("force-network-mode", other, "default, none or host")),
        }
    }

    fn hosts(&self) -> Result<Vec<(String, String)>> {
        let lines = self.filled("add-hosts").into_iter().flat_map(|text| text.split(','));
        let line = |line: &str| match line.split_once('=') {
            Some((name, address)) if !name.is_empty() => Ok((name.to_owned(), address.to_owned())),
            _ => Err(bad("add-hosts", line, "NAME=ADDRESS")),
        };
        lines.map(line).collect()
    }

    fn ulimits(&self) -> Result<Vec<pb::Ulimit>> {
        let limits = self.filled("ulimit").into_iter().flat_map(|text| text.split(','));
        let limit = |text: &str| {
            let parsed = || {
                let (name, numbers) = text.split_once('=')?;
                let (soft, hard) = numbers.split_once(':').unwrap_or((numbers, numbers));
                let (soft, hard) = (soft.parse().ok()?, hard.parse().ok()?);
                Some(pb::Ulimit { name: name.to_owned(), soft, hard })
            };
            parsed().ok_or_else(|| bad("ulimit", text, "NAME=SOFT[:HARD]"))
        };
        limits.map(limit).collect()
    }
}

fn bad(key: &str, value: &str, expected: &str) -> Failure {
    Failure::Option(format!("the option {key} is {value:?} and not {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(options: &[&str]) -> Given {
        Given::new(options.iter().map(|text| (*text).to_owned()), "session".into())
    }

    fn options(list: &[&str]) -> Result<koskit_frontend::Options, String> {
        let platform = Platform::new("linux", "arm64", "");
        given(list).frontend(&platform, &platform).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_those_of_buildkits_own_frontend() {
        let options = options(&[
            "target=a",
            "build-arg:A=b=c",
            "label:com.x=y",
            "no-cache=one,two",
            "image-resolve-mode=pull",
            "force-network-mode=none",
            "add-hosts=a=1.2.3.4,b=::1",
            "shm-size=64",
            "ulimit=nofile=1:2,core=0",
            "local-sessionid:context=other",
        ])
        .unwrap();
        assert_eq!(options.target.as_deref(), Some("a"));
        assert_eq!(options.build_args["A"], "b=c");
        assert_eq!(options.labels["com.x"], "y");
        assert_eq!(
            (options.no_cache, options.no_cache_filter),
            (false, vec!["one".into(), "two".into()])
        );
        assert_eq!((options.resolve, options.network), (ResolveMode::Pull, pb::NetMode::None));
        assert_eq!(options.extra_hosts[1], ("b".into(), "::1".into()));
        assert_eq!(
            (options.shm_size, options.ulimits[0].hard, options.ulimits[1].hard),
            (64, 2, 0)
        );
        assert_eq!(options.session.as_deref(), Some("other"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "shm-size=x",
            "ulimit=x",
            "add-hosts=x",
            "force-network-mode=x",
            "image-resolve-mode=x",
        ] {
            let (key, _) = bad.split_once('=').unwrap();
            assert!(options(&[bad]).unwrap_err().contains(key), "{bad}");
        }
    }

    #[test]
    fn without_a_platform_it_is_the_one_that_koskit_builds_for() {
        let arm64 = Platform::new("linux", "arm64", "");
        assert_eq!(given(&[]).platforms().unwrap(), std::slice::from_ref(&arm64));
        let both = given(&["platform=linux/amd64,linux/arm64,linux/amd64"]).platforms().unwrap();
        assert_eq!(both, [Platform::new("linux", "amd64", ""), arm64]);
        assert!(given(&["platform=x/y/z/w"]).platforms().is_err());
        assert!(given(&["multi-platform=0"]).is_index(2).is_err());
        assert!(given(&["multi-platform=1"]).is_index(1).unwrap());
    }

    #[test]
    fn the_generator_of_a_bill_is_the_frontend_itself_or_the_one_that_is_named() {
        assert_eq!(given(&["source=r/kos/frontend"]).sbom(), None);
        let own = given(&["source=r/kos/frontend", "attest:sbom="]).sbom().unwrap();
        assert_eq!((own.generator.as_deref(), own.is_own), (Some("r/kos/frontend"), true));
        let other = given(&["source=r/x", "attest:sbom=generator=r/other,A=b"]).sbom().unwrap();
        assert_eq!((other.generator.as_deref(), other.is_own), (Some("r/other"), false));
        assert_eq!(other.parameters["A"], "b");
    }

    #[test]
    fn caches_are_handed_on() {
        let text = r#"cache-imports=[{"Type":"registry","Attrs":{"ref":"a/b"}},{"Type":"gha"}]"#;
        let caches = given(&[text, "cache-from=c,d"]).caches().unwrap();
        let kinds: Vec<_> = caches.iter().map(|cache| cache.r#type.as_str()).collect();
        assert_eq!(kinds, ["registry", "gha", "registry", "registry"]);
        assert_eq!((&*caches[0].attrs["ref"], &*caches[3].attrs["ref"]), ("a/b", "d"));
        assert!(given(&["cache-imports={"]).caches().is_err());
    }
}
