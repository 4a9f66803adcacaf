//! `koskit debug`: what the parts of the Dockerfile language make of a text.

use crate::output;
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use koskit_dockerfile::{Ast, Errors, Expander, Source};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

/// Show how the Dockerfile language reads a text
#[derive(Subcommand)]
pub enum Command {
    Ast(AstArguments),
    Expand(ExpandArguments),
}

/// Print the tree of a Dockerfile, as BuildKit's parser prints it
#[derive(Args)]
pub struct AstArguments {
    /// The Dockerfile, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Expand the variables, quotes and escapes of a word
///
/// The exit code is 1 where the word is wrong, or a variable that it demands is missing.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct ExpandArguments {
    /// Split the result into words, as EXPOSE does, and print them with commas between
    #[arg(long)]
    words: bool,
    /// The escape character
    #[arg(long, value_name = "CHARACTER", default_value = "\\")]
    escape: char,
    /// A variable; without a value, that of the environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]", allow_hyphen_values = true)]
    env: Vec<String>,
    /// The word
    #[arg(value_name = "WORD", allow_hyphen_values = true)]
    word: String,
}

const EXAMPLES: &str = "\
Examples:
  koskit debug expand -e VERSION=1.2.3 'app-${VERSION%.*}'    app-1.2
  koskit debug expand --words -e P='80 443' '$P 53/udp'       80,443,53/udp";

/// Does what is asked for.
///
/// # Errors
/// The text is wrong, or cannot be read.
pub fn debug(command: &Command) -> Result<()> {
    match command {
        Command::Ast(arguments) => ast(arguments),
        Command::Expand(arguments) => expand(arguments),
    }
}

fn ast(arguments: &AstArguments) -> Result<()> {
    let name = arguments.file.display().to_string();
    let mut text = Vec::new();
    match name.as_str() {
        "-" => io::stdin().read_to_end(&mut text).map(drop),
        _ => std::fs::read(&arguments.file).map(|read| text = read),
    }
    .with_context(|| format!("{name} cannot be read"))?;
    let source = Source::new(name, String::from_utf8_lossy(&text));
    let ast = Ast::parse(Arc::new(source));
    if ast.has_errors() {
        return Err(Errors { source: ast.source, diagnostics: ast.diagnostics }.into());
    }
    for warning in &ast.diagnostics {
        output::error(&warning.render(&ast.source, output::Paint::stderr().is_on()));
    }
    output::print(&format!("{}\n", ast.dump()))?;
    Ok(())
}

fn expand(arguments: &ExpandArguments) -> Result<()> {
    let mut env = BTreeMap::new();
    for setting in &arguments.env {
        match setting.split_once('=') {
            Some(("", _)) => bail!("the variable {setting:?} has no name"),
            Some((name, value)) => {
                env.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Ok(value) = std::env::var(setting) {
                    env.insert(setting.clone(), value);
                }
            }
        }
    }
    let expanded = Expander::new(arguments.escape)
        .expand(&arguments.word, &env)
        .map_err(|error| anyhow!(error).context(format!("{:?} is wrong", arguments.word)))?;
    let text = match arguments.words {
        true => expanded.words.join(","),
        false => expanded.text,
    };
    output::print(&format!("{text}\n"))?;
    Ok(())
}
