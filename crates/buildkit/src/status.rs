//! What a server tells of its work, as [`koskit_progress::Status`].

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex as PbVertex, VertexLog, VertexStatus, VertexWarning,
};
use koskit_llb::Digest;
use koskit_progress::{Log, ProgressGroup, Status, Stream, Task, Time, Vertex, Warning};

use crate::vertices::Vertices;

/// The same in our words, of the vertices that were asked for. What has no digest that can be
/// read is left out.
pub(crate) fn status(response: StatusResponse, vertices: &mut Vertices) -> Status {
    response.vertexes.iter().for_each(|vertex| vertices.learn(vertex));
    let vertices = &*vertices;
    let digest = |text: &str| vertices.digest(text);
    Status {
        vertexes: all(response.vertexes, |it| vertex(it, vertices)),
        statuses: all(response.statuses, |it| task(it, &digest)),
        logs: all(response.logs, |it| log(it, &digest)),
        warnings: all(response.warnings, |it| warning(it, &digest)),
    }
}

fn all<T, U>(list: Vec<T>, convert: impl FnMut(T) -> Option<U>) -> Vec<U> {
    list.into_iter().filter_map(convert).collect()
}

fn time(timestamp: Option<Timestamp>) -> Option<Time> {
    let Timestamp { seconds, nanos } = timestamp?;
    Some(Time::new(seconds, nanos.try_into().unwrap_or(0)))
}

type Read<'a> = &'a dyn Fn(&str) -> Option<Digest>;

fn vertex(vertex: PbVertex, vertices: &Vertices) -> Option<Vertex> {
    let digest = vertices.digest(&vertex.digest)?;
    let name = vertices.name(&digest).map_or(vertex.name, str::to_owned);
    Some(Vertex {
        inputs: vertex.inputs.iter().filter_map(|input| vertices.digest(input)).collect(),
        started: time(vertex.started),
        completed: time(vertex.completed),
        cached: vertex.cached,
        error: vertex.error,
        progress_group: vertex.progress_group.map(|group| ProgressGroup {
            id: group.id,
            name: group.name,
            weak: group.weak,
        }),
        ..Vertex::new(digest, name)
    })
}

fn task(status: VertexStatus, digest: Read<'_>) -> Option<Task> {
    Some(Task {
        id: status.id,
        vertex: digest(&status.vertex)?,
        name: status.name,
        total: status.total,
        current: status.current,
        timestamp: time(status.timestamp).unwrap_or_default(),
        started: time(status.started),
        completed: time(status.completed),
    })
}

fn log(log: VertexLog, digest: Read<'_>) -> Option<Log> {
    Some(Log {
        vertex: digest(&log.vertex)?,
        stream: if log.stream == 2 { Stream::Stderr } else { Stream::Stdout },
        data: log.msg,
        timestamp: time(log.timestamp).unwrap_or_default(),
    })
}

fn warning(warning: VertexWarning, digest: Read<'_>) -> Option<Warning> {
    Some(Warning {
        vertex: digest(&warning.vertex)?,
        level: warning.level,
        short: warning.short,
        detail: warning.detail,
        url: warning.url,
        source: warning.info,
        range: warning.ranges,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use koskit_llb::{Builder, FileOp, Graph, Note};

    #[test]
    fn a_status_keeps_all_that_has_a_vertex() {
        let mut builder = Builder::new();
        let mkdir = FileOp::new().mkdir("/x", 0o755, false, None);
        let made = builder.file(None, mkdir, Note::new("[1/1] RUN x"));
        let graph = Graph::new(&builder.definition(made)).unwrap();
        let (theirs, ours) = (Digest::of(b"theirs"), graph.vertices()[0].digest.clone());
        let at = |seconds| Some(Timestamp { seconds, nanos: 5 });
        let response = StatusResponse {
            vertexes: vec![
                PbVertex {
                    digest: theirs.to_string(),
                    name: "[1/1] RUN x".into(),
                    started: at(1),
                    completed: at(2),
                    error: "no".into(),
                    ..PbVertex::default()
                },
                PbVertex { digest: "none".into(), ..PbVertex::default() },
            ],
            logs: vec![VertexLog {
                vertex: theirs.to_string(),
                timestamp: at(3),
                stream: 2,
                msg: b"\xff".to_vec(),
            }],
            ..StatusResponse::default()
        };
        let status = status(response, &mut Vertices::new(&graph));
        let mut vertex = Vertex::new(ours.clone(), "[1/1] RUN x");
        vertex.started = Some(Time::new(1, 5));
        vertex.completed = Some(Time::new(2, 5));
        vertex.error = "no".into();
        assert_eq!(status.vertexes, [vertex]);
        assert_eq!((&status.logs[0].vertex, status.logs[0].stream), (&ours, Stream::Stderr));
        assert_eq!(status.logs[0].data, b"\xff");
    }
}
