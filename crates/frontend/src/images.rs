//! The images that a file names.

use std::collections::BTreeMap;

use koskit_dockerfile::{Diagnostic, Word, nearest};
use koskit_llb::{Digest, Platform, Reference};

use crate::{BaseImage, ImageResolver, ResolveError, Result};

/// Asks for images, for each once.
pub(crate) struct Images<'a> {
    resolver: &'a dyn ImageResolver,
    /// The names of the file's stages, which a name may have been meant to be.
    stages: Vec<&'a str>,
    known: BTreeMap<(String, Platform), BaseImage>,
}

impl<'a> Images<'a> {
    pub fn new(resolver: &'a dyn ImageResolver, stages: Vec<&'a str>) -> Self {
        Self { resolver, stages, known: BTreeMap::new() }
    }

    /// The image that a word names.
    pub fn get(&mut self, name: &Reference, platform: &Platform, word: &Word) -> Result<BaseImage> {
        let resolver = self.resolver;
        self.ask(name.to_string(), platform, word, || resolver.resolve(name, platform))
    }

    /// The image of an OCI layout, which stands for what a word names.
    pub fn layout(
        &mut self,
        store: &str,
        digest: &Digest,
        platform: &Platform,
        word: &Word,
    ) -> Result<BaseImage> {
        let (resolver, key) = (self.resolver, format!("oci-layout://{store}@{digest}"));
        self.ask(key, platform, word, || resolver.resolve_layout(store, digest, platform))
    }

    fn ask(
        &mut self,
        key: String,
        platform: &Platform,
        word: &Word,
        resolve: impl FnOnce() -> Result<BaseImage, ResolveError>,
    ) -> Result<BaseImage> {
        let key = (key, platform.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let image = resolve().map_err(|error| {
            let diagnostic = Diagnostic::error(word.span, chain(&*error));
            let diagnostic = diagnostic.label(format!("needed for {platform}"));
            Box::new(match nearest(&word.text, self.stages.iter().copied()) {
                Some(near) => diagnostic.hint(format!("did you mean the stage {near}?")),
                None => diagnostic,
            })
        })?;
        self.known.insert(key, image.clone());
        Ok(image)
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
