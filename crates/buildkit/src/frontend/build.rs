//! One build: a graph and a configuration for each platform.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    Ref, RefMap, Result as BuildResult, WarnRequest, result,
};
use koskit_dockerfile::{Diagnostic, Source};
use koskit_frontend::{Build, Context, ImageConfig, convert};
use koskit_llb::{Graph, Platform, Reference, pb};
use koskit_progress::Time;
use koskit_transform::{Sdk, adapt};
use serde_json::json;

use super::files;
use super::gateway::Gateway;
use super::options::Given;
use super::requests;
use super::sbom::Scanner;
use super::sources::{Images, Sources};
use super::{Failure, Result};
use crate::error::chain;

/// Makes the answer.
pub(crate) fn build(gateway: &Gateway, given: &Given) -> Result<BuildResult> {
    let request = given.get("requestid").unwrap_or_default();
    if request == requests::DESCRIBE {
        return Ok(requests::describe());
    }
    let platforms = given.platforms()?;
    let any = given.frontend(&gateway.platform, &platforms[0])?;
    let sources = Sources::read(gateway, given, &any)?;
    let builder = Builder { gateway, given, sources: &sources };
    if !request.is_empty() {
        return builder.answer(request, &platforms[0]);
    }
    let scanner = Scanner::find(gateway, given, &any, builder.images(&any))?;
    let is_index = given.is_index(platforms.len())?;
    let mut metadata = HashMap::new();
    let mut refs = HashMap::new();
    let mut attestations = HashMap::new();
    for platform in &platforms {
        let Made { made, config, definition } = builder.platform(platform, is_index)?;
        if let Some(scanner) = &scanner {
            attestations.insert(platform.to_string(), scanner.scan(platform, &definition)?);
        }
        let key = match is_index {
            true => format!("containerimage.config/{platform}"),
            false => "containerimage.config".to_owned(),
        };
        let config = serde_json::to_vec(&config).expect("a configuration is JSON");
        metadata.insert(key, config);
        refs.insert(platform.to_string(), made);
    }
    let list: Vec<_> = platforms.iter().map(exported).collect();
    let list = json!({ "Platforms": list }).to_string();
    metadata.insert("refs.platforms".to_owned(), list.into_bytes());
    let result = match is_index {
        true => result::Result::Refs(RefMap { refs }),
        false => result::Result::Ref(refs.into_values().next().unwrap_or_default()),
    };
    Ok(BuildResult { metadata, attestations, result: Some(result) })
}

/// A platform as exporters want it.
fn exported(platform: &Platform) -> serde_json::Value {
    let mut fields = json!({ "architecture": platform.architecture, "os": platform.os });
    if !platform.variant.is_empty() {
        fields["variant"] = json!(platform.variant);
    }
    json!({ "ID": platform.to_string(), "Platform": fields })
}

/// What is made for one platform.
struct Made {
    made: Ref,
    config: ImageConfig,
    /// The graph that it is the result of.
    definition: pb::Definition,
}

struct Builder<'a> {
    gateway: &'a Gateway,
    given: &'a Given,
    sources: &'a Sources,
}

impl Builder<'_> {
    fn options(&self, platform: &Platform, is_index: bool) -> Result<koskit_frontend::Options> {
        Ok(koskit_frontend::Options {
            context: self.sources.context.clone(),
            contexts: self.sources.contexts.clone(),
            multi_platform: is_index,
            ..self.given.frontend(&self.gateway.platform, platform)?
        })
    }

    fn images(&self, options: &koskit_frontend::Options) -> Images<'_> {
        let session = self.given.session.clone();
        Images { gateway: self.gateway, session, resolve: options.resolve }
    }

    /// What is asked instead of a build.
    fn answer(&self, request: &str, platform: &Platform) -> Result<BuildResult> {
        let options = self.options(platform, false)?;
        let images = self.images(&options);
        let dockerfile = self.sources.dockerfile.clone();
        Ok(match request {
            requests::LINT => {
                requests::lint(&koskit_frontend::check(dockerfile, &options, &images)?)
            }
            requests::OUTLINE => {
                requests::outline(&koskit_frontend::outline(dockerfile, &options, &images)?)
            }
            requests::TARGETS => {
                let targets = koskit_frontend::targets(dockerfile);
                requests::targets(&targets.map_err(koskit_frontend::FrontendError::from)?)
            }
            other => {
                return Err(Failure::Option(format!(
                    "this frontend does not know the request {other:?}; it knows {}",
                    requests::known()
                )));
            }
        })
    }

    /// The result for one platform.
    fn platform(&self, platform: &Platform, is_index: bool) -> Result<Made> {
        let mut options = self.options(platform, is_index)?;
        let (target, host) = (options.target_platform.clone(), options.build_platform.clone());
        let adapting = koskit_transform::Options::new(&mut options.build_args, target, host);
        let mut adapting = adapting.map_err(Failure::Option)?;
        if adapting.sdk.is_none() {
            adapting.sdk = self.sdk();
        }
        let images = self.images(&options);
        let build = convert(self.sources.dockerfile.clone(), &options, &images)?;
        let adapted = adapt(&build.definition, &build.config, &adapting, &images)?;
        self.warn(&build, &adapted.warnings);
        let made = self.gateway.solve(&adapted.definition, &self.given.caches()?)?;
        let mut config = build.config;
        if adapted.reason.is_some() && !made.id.is_empty() && self.gateway.evaluate(&made) {
            let mut files = files::Result { gateway: self.gateway, of: &made };
            match koskit_transform::labels_of_files(&mut files, &config) {
                Ok(labels) => config.config.labels.extend(labels),
                // It is built without, as it would be for Linux.
                Err(error) => {
                    self.tell(
                        format!("the image gets no labels for seL4: {}", chain(&error)),
                        None,
                    );
                }
            }
        }
        config.created.get_or_insert_with(|| created(&options).to_string());
        Ok(Made { made, config, definition: adapted.definition })
    }

    /// The toolchain image, where the user has named another one for its name: a registry that
    /// has the default one is not everybody's.
    fn sdk(&self) -> Option<Reference> {
        let default = Sdk::default_image().familiar();
        let name = default.strip_suffix(":latest").unwrap_or(&default);
        match self.sources.contexts.get(name)? {
            Context::Image(reference) => Some(reference.clone()),
            _ => None,
        }
    }

    /// Shows what the Dockerfile probably does not mean.
    fn warn(&self, build: &Build, others: &[String]) {
        for warning in &build.warnings {
            self.tell(warning.message.clone(), Some((warning, &build.source)));
        }
        for name in &build.unused_args {
            // Arguments for the server itself are in nobody's Dockerfile.
            if !name.starts_with("BUILDKIT_") {
                self.tell(format!("no ARG takes the build argument {name}"), None);
            }
        }
        others.iter().for_each(|warning| self.tell(warning.clone(), None));
    }

    fn tell(&self, text: String, finding: Option<(&Diagnostic, &Source)>) {
        let definition = &self.sources.definition;
        let Some(vertex) = Graph::new(definition).ok().and_then(|graph| {
            let result = graph.result()?;
            Some(graph.vertices()[result.vertex].digest.to_string())
        }) else {
            return;
        };
        let mut warning = WarnRequest {
            digest: vertex,
            level: 1,
            short: text.into_bytes(),
            ..Default::default()
        };
        if let Some((finding, source)) = finding {
            if let Some(rule) = finding.rule {
                let short = String::from_utf8_lossy(&warning.short).into_owned();
                warning.short = format!("{}: {short}", rule.name()).into_bytes();
                warning.url = rule.url().unwrap_or_default();
            }
            warning.detail.extend(finding.hint.iter().map(|hint| hint.clone().into_bytes()));
            warning.info = Some(pb::SourceInfo {
                filename: source.name().to_owned(),
                data: source.text().as_bytes().to_vec(),
                definition: Some(definition.clone()),
                language: "Dockerfile".to_owned(),
            });
            let position = |line: usize| {
                Some(pb::Position { line: line.try_into().unwrap_or(i32::MAX), character: 0 })
            };
            let lines = source.lines(finding.span);
            warning.ranges = lines
                .map(|line| pb::Range { start: position(line), end: position(line) })
                .collect();
        }
        self.gateway.warn(warning);
    }
}

/// When the image is said to be made.
fn created(options: &koskit_frontend::Options) -> Time {
    let epoch = options.build_args.get("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    epoch.map_or_else(Time::now, |seconds| Time::new(seconds, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_told_as_exporters_want_them() {
        let platform = Platform::new("linux", "arm", "v7");
        let expected = json!({ "ID": "linux/arm/v7",
            "Platform": { "architecture": "arm", "os": "linux", "variant": "v7" } });
        assert_eq!(exported(&platform), expected);
    }

    #[test]
    fn an_image_is_made_when_the_build_says() {
        let mut options = koskit_frontend::Options::default();
        options.build_args.insert("SOURCE_DATE_EPOCH".into(), "1".into());
        assert_eq!(created(&options).to_string(), "1970-01-01T00:00:01Z");
    }
}
