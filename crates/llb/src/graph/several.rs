//! One graph of several, as for an image of several platforms.

use std::collections::HashMap;

use super::{Edge, Graph};

impl Graph {
    /// All vertices of all graphs, those that are equal once; [`Graph::results`] has what each of
    /// the graphs is for. A vertex that any of them wants to have done anew is.
    pub fn several(graphs: &[Self]) -> Self {
        let mut merged = Self { vertices: Vec::new(), results: Vec::new(), files: Vec::new() };
        let mut known: HashMap<String, usize> = HashMap::new();
        for graph in graphs {
            let offset = merged.files.len();
            merged.files.extend(graph.files.iter().cloned());
            let mut places = Vec::with_capacity(graph.vertices.len());
            for vertex in &graph.vertices {
                if let Some(&place) = known.get(vertex.digest.as_str()) {
                    merged.vertices[place].metadata.ignore_cache |= vertex.metadata.ignore_cache;
                    places.push(place);
                    continue;
                }
                let mut vertex = vertex.clone();
                vertex.inputs.iter_mut().for_each(|edge| edge.vertex = places[edge.vertex]);
                vertex.locations.iter_mut().for_each(|range| range.file += offset);
                places.push(merged.vertices.len());
                known.insert(vertex.digest.as_str().to_owned(), merged.vertices.len());
                merged.vertices.push(vertex);
            }
            let place = |edge: &Edge| Edge { vertex: places[edge.vertex], output: edge.output };
            merged.results.push(graph.result().as_ref().map(place));
        }
        if merged.results.is_empty() {
            merged.results.push(None);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use crate::build::{Builder, Exec, Note, ResolveMode, Source};
    use crate::{Graph, Platform};

    /// An image for the build's machine, and a command on it for a platform.
    fn graph(platform: &str) -> Graph {
        let mut builder = Builder::new();
        builder.source_file("Dockerfile", "Dockerfile", platform);
        let source = Source::Image {
            reference: "base".parse::<crate::Reference>().unwrap().tagged(),
            platform: Platform::new("linux", "amd64", ""),
            resolve: ResolveMode::Default,
        };
        let base = builder.source(source, Note::new("FROM base"));
        let exec = Exec { args: vec!["make".into()], cwd: "/".into(), ..Exec::default() };
        let platform = Platform::new("linux", platform, "");
        let lines = Some((1, 1));
        let note = Note { lines, ..Note::new("RUN make") };
        let made = builder.exec(base, &platform, exec, note);
        Graph::new(&builder.definition(made)).unwrap()
    }

    #[test]
    fn what_graphs_share_is_there_once_and_each_keeps_its_result() {
        let all = Graph::several(&[graph("arm64"), graph("riscv64"), graph("arm64")]);
        assert_eq!(all.vertices().len(), 3);
        let ends: Vec<_> = all.results().iter().map(|edge| edge.unwrap().vertex).collect();
        assert_eq!(ends, [1, 2, 1]);
        assert!(all.vertices()[1..].iter().all(|vertex| vertex.inputs[0].vertex == 0));
        // Each location still points at its own text.
        let file = all.vertices()[2].locations[0].file;
        assert_eq!(all.files()[file].data, b"riscv64");
        assert_eq!(Graph::several(&[]).results(), [None]);
    }
}
