//! `koskit build --call`: what is asked about a Dockerfile instead of building it.

use crate::build::arguments::CheckFormat;
use crate::build::check;
use crate::build::fields;
use crate::output;
use anyhow::Result;
use koskit_dockerfile::Source;
use koskit_frontend::{FrontendError, ImageResolver, Options};
use std::str::FromStr;

/// `NAME[,format=json][,ignorestatus=BOOL]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is asked.
    pub what: What,
    /// Whether programs want to read the answer.
    pub format: CheckFormat,
    /// Whether findings of a check are no failure.
    pub ignore_status: bool,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nothing: it is built.
    Build,
    /// What is wrong with it.
    Check,
    /// What a target takes.
    Outline,
    /// Which targets there are.
    Targets,
}

/// Their names; `lint` is an old one of docker's.
const NAMES: [(&str, What); 5] = [
    ("build", What::Build),
    ("check", What::Check),
    ("outline", What::Outline),
    ("targets", What::Targets),
    ("lint", What::Check),
];

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = Self { what: What::Build, format: CheckFormat::Text, ignore_status: false };
        if text.is_empty() {
            return Ok(call);
        }
        let mut name = None;
        for field in fields::fields(text)? {
            match field.split_once('=') {
                None if name.is_some() => {
                    return Err(format!("{text:?} asks for more than one thing"));
                }
                None => {
                    let known = NAMES.iter().find(|(known, _)| *known == field);
                    let Some((_, what)) = known else {
                        return Err(format!(
                            "there is no call {field:?}: there are build, check, outline and targets"
                        ));
                    };
                    (name, call.what) = (Some(field), *what);
                }
                Some(("format", "json")) => call.format = CheckFormat::Json,
                Some(("format", "text" | "")) => call.format = CheckFormat::Text,
                Some(("format", other)) => {
                    return Err(format!("there is no format {other:?}: there are text and json"));
                }
                Some(("ignorestatus", value)) => {
                    call.ignore_status = fields::boolean("ignorestatus", value)?;
                }
                Some((key, _)) => {
                    return Err(format!("there is no {key:?}: there are format and ignorestatus"));
                }
            }
        }
        match name {
            Some(_) => Ok(call),
            None => Err(format!("{text:?} does not say what is asked")),
        }
    }
}

impl Call {
    /// Prints the answer.
    ///
    /// # Errors
    /// There is none, or a check has findings.
    pub fn answer(
        &self,
        dockerfile: Source,
        options: &Options,
        images: &dyn ImageResolver,
    ) -> Result<()> {
        match self.what {
            What::Check => {
                check::check(dockerfile, options, images, self.format, self.ignore_status)
            }
            What::Outline => {
                let outline = koskit_frontend::outline(dockerfile, options, images)?;
                self.print(outline.to_string(), serde_json::to_string_pretty(&outline)?)
            }
            What::Targets => {
                let targets = koskit_frontend::targets(dockerfile).map_err(FrontendError::from)?;
                self.print(targets.to_string(), serde_json::to_string_pretty(&targets)?)
            }
            What::Build => unreachable!("who builds asks nothing"),
        }
    }

    fn print(&self, text: String, json: String) -> Result<()> {
        match self.format {
            CheckFormat::Text => output::print(&text)?,
            CheckFormat::Json => output::print(&format!("{json}\n"))?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_name_and_its_options() {
        let call: Call = "outline,format=json".parse().unwrap();
        assert_eq!((call.what, call.format), (What::Outline, CheckFormat::Json));
        let call: Call = "format=json,lint,ignorestatus=1".parse().unwrap();
        assert_eq!((call.what, call.ignore_status), (What::Check, true));
        assert_eq!("build".parse::<Call>().unwrap().what, What::Build);
    }

    #[test]
    fn an_unknown_call_is_told_which_there_are() {
        let error = "outlines".parse::<Call>().unwrap_err();
        assert!(error.contains("build, check, outline and targets"), "{error}");
        for wrong in [
            "outline,targets",
            "outline,format=xml",
            "outline,x=1",
            "format=json",
            "check,ignorestatus=2",
        ] {
            assert!(wrong.parse::<Call>().is_err(), "{wrong}");
        }
    }
}
