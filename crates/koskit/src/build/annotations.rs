//! Annotations, as docker writes them on a command line.

use koskit_image::Annotations;
use koskit_llb::Platform;
use std::str::FromStr;

/// One annotation: `[WHERE[PLATFORM],…:]KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    places: Vec<(Place, Option<Platform>)>,
    key: String,
    value: String,
}

/// Where an annotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the manifest.
    Manifest,
    /// In the index of several manifests.
    Index,
    /// At the manifest's descriptor.
    ManifestDescriptor,
    /// At the index's descriptor.
    IndexDescriptor,
}

impl Place {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "manifest" | "" => Ok(Self::Manifest),
            "index" => Ok(Self::Index),
            "manifest-descriptor" => Ok(Self::ManifestDescriptor),
            "index-descriptor" => Ok(Self::IndexDescriptor),
            _ => Err(format!(
                "unknown annotation type {text:?}; there are manifest, index, \
                 manifest-descriptor and index-descriptor"
            )),
        }
    }
}

impl Annotation {
    /// One of an output: `annotation[-WHERE][[PLATFORM]].KEY` and its value. `None` if the key is
    /// of something else.
    ///
    /// # Errors
    /// There is no such place or platform.
    pub fn of_field(key: &str, value: &str) -> Result<Option<Self>, String> {
        let Some(rest) = key.strip_prefix("annotation") else { return Ok(None) };
        // A platform has no dot in it, but the key has.
        let Some((place, key)) = rest.split_once('.') else { return Ok(None) };
        let place = match place.strip_prefix('-') {
            Some(place) => place,
            None if place.is_empty() || place.starts_with('[') => place,
            None => return Ok(None),
        };
        let places = vec![Self::place(place)?];
        Ok(Some(Self { places, key: key.to_owned(), value: value.to_owned() }))
    }

    fn place(text: &str) -> Result<(Place, Option<Platform>), String> {
        let Some((place, platform)) = text.split_once('[') else {
            return Ok((Place::parse(text)?, None));
        };
        let platform = platform.strip_suffix(']').ok_or("the [ of a platform has no ]")?;
        let platform = platform.parse::<Platform>().map_err(|error| error.to_string())?;
        Ok((Place::parse(place)?, Some(platform)))
    }

    fn is_at(&self, place: Place, platform: Option<&Platform>) -> bool {
        let matches = |own: &(Place, Option<Platform>)| {
            own.0 == place && (own.1.is_none() || own.1.as_ref() == platform)
        };
        self.places.iter().any(matches)
    }
}

/// Those of them that stand at a place; for manifests, of that platform.
pub fn at(all: &[Annotation], place: Place, platform: Option<&Platform>) -> Annotations {
    let here = all.iter().filter(|annotation| annotation.is_at(place, platform));
    here.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}

impl FromStr for Annotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("invalid annotation {text:?}, expected key=value"))?;
        let (places, key) = match key.split_once(':') {
            Some((places, key)) => {
                (places.split(',').map(Self::place).collect::<Result<_, _>>()?, key)
            }
            None => (vec![(Place::Manifest, None)], key),
        };
        if key.is_empty() {
            return Err(format!("invalid annotation {text:?}, its key is empty"));
        }
        Ok(Self { places, key: key.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_says_where_it_stands() {
        let all: Vec<Annotation> = ["a=1", "index:b=2", "index,manifest[linux/amd64]:c=x=y:z"]
            .map(|text| text.parse().unwrap())
            .into();
        let amd = "linux/amd64".parse().unwrap();
        let keys = |place, platform: Option<&Platform>| {
            at(&all, place, platform).into_keys().collect::<String>()
        };
        assert_eq!(keys(Place::Manifest, Some(&amd)), "ac");
        assert_eq!(keys(Place::Manifest, Some(&Platform::new("linux", "arm64", ""))), "a");
        assert_eq!(keys(Place::Index, None), "bc");
        assert_eq!(at(&all, Place::Index, None)["c"], "x=y:z");
        for bad in ["a", "manifests:a=b", "=b", "manifest[x]:a=b", "manifest[linux/amd64:a=b"] {
            assert!(bad.parse::<Annotation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn annotations_of_an_output_have_their_place_in_the_key() {
        let parse = |key| Annotation::of_field(key, "v");
        let annotation = parse("annotation-manifest-descriptor[linux/amd64].a.b").unwrap().unwrap();
        let amd = "linux/amd64".parse().unwrap();
        assert_eq!(at(&[annotation], Place::ManifestDescriptor, Some(&amd))["a.b"], "v");
        assert!(parse("annotation.k").unwrap().is_some());
        assert!(parse("annotation-x.k").is_err());
        assert_eq!(parse("annotations.k"), Ok(None));
        assert_eq!(parse("dest"), Ok(None));
    }
}
