//! The rules by name.

use std::fmt;

/// A rule. Its name is BuildKit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A keyword is not in the case that most keywords of the file have.
    ConsistentInstructionCasing,
    /// A file is copied that the `.dockerignore` hides.
    CopyIgnoredFile,
    /// Two stages have one name.
    DuplicateStageName,
    /// EXPOSE has an address or a port of the host.
    ExposeInvalidFormat,
    /// The protocol of EXPOSE is not in lower case.
    ExposeProtoCasing,
    /// AS and FROM are not in the same case.
    FromAsCasing,
    /// `--platform` is always the same.
    FromPlatformFlagConstDisallowed,
    /// The image is for another platform than the one that was asked for.
    InvalidBaseImagePlatform,
    /// Without build arguments, a FROM names no image.
    InvalidDefaultArgInFrom,
    /// The comment above a FROM or ARG does not begin with its name. Experimental.
    InvalidDefinitionDescription,
    /// CMD or ENTRYPOINT is run by a shell, which does not pass on signals.
    JSONArgsRecommended,
    /// ENV or LABEL has no `=`.
    LegacyKeyValueFormat,
    /// MAINTAINER.
    MaintainerDeprecated,
    /// Of several CMDs and the like in a stage, only the last counts.
    MultipleInstructionsDisallowed,
    /// An empty line is inside of an instruction.
    NoEmptyContinuation,
    /// `--platform` is what it is without.
    RedundantTargetPlatform,
    /// A stage is called `scratch` or `context`.
    ReservedStageName,
    /// A secret is in ARG or ENV, and so in the image.
    SecretsUsedInArgOrEnv,
    /// The name of a stage is not in lower case.
    StageNameCasing,
    /// A FROM uses a variable that no ARG before the first FROM declares.
    UndefinedArgInFrom,
    /// A variable is used that is not set.
    UndefinedVar,
    /// A relative WORKDIR comes first, so that the base image decides where it is.
    WorkdirRelativePath,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 22] = [
        Rule::ConsistentInstructionCasing,
        Rule::CopyIgnoredFile,
        Rule::DuplicateStageName,
        Rule::ExposeInvalidFormat,
        Rule::ExposeProtoCasing,
        Rule::FromAsCasing,
        Rule::FromPlatformFlagConstDisallowed,
        Rule::InvalidBaseImagePlatform,
        Rule::InvalidDefaultArgInFrom,
        Rule::InvalidDefinitionDescription,
        Rule::JSONArgsRecommended,
        Rule::LegacyKeyValueFormat,
        Rule::MaintainerDeprecated,
        Rule::MultipleInstructionsDisallowed,
        Rule::NoEmptyContinuation,
        Rule::RedundantTargetPlatform,
        Rule::ReservedStageName,
        Rule::SecretsUsedInArgOrEnv,
        Rule::StageNameCasing,
        Rule::UndefinedArgInFrom,
        Rule::UndefinedVar,
        Rule::WorkdirRelativePath,
    ];

    /// The name, as `# check=skip=…` has it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The page that explains it; one rule has none.
    pub fn url(self) -> Option<String> {
        if self == Rule::InvalidBaseImagePlatform {
            return None;
        }
        let mut kebab = String::new();
        // JSON is one word.
        for (i, c) in self.name().replace("JSON", "Json").chars().enumerate() {
            if c.is_ascii_uppercase() && i > 0 {
                kebab.push('-');
            }
            kebab.push(c.to_ascii_lowercase());
        }
        Some(format!("https://docs.docker.com/go/dockerfile/rule/{kebab}/"))
    }

    /// Whether it is off unless the file turns it on.
    pub fn is_experimental(self) -> bool {
        self == Rule::InvalidDefinitionDescription
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
