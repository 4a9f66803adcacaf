//! Work that several want is done once.

use super::*;

/// How often the command of a build was run: it writes a line into a cache mount each time.
const TEXT: &str = "FROM base
RUN --mount=type=cache,id=count,target=/count \\
    echo x >>/count/lines && sleep 0.3 && cat /count/lines >/made
";

fn runs(built: &Built, world: &World) -> usize {
    let made = world.files(built).into_iter().find(|line| line.contains(" made ")).unwrap();
    made.matches('x').count()
}

#[test]
fn two_builds_of_the_same_at_once_run_its_command_once() {
    inside(|_, dir| {
        let one = World::new(dir);
        add_base(&one, dir);
        // As another process would have it: all that they share is on the disk.
        let other = World::new(dir);
        let (one, other) = std::thread::scope(|scope| {
            let first = scope.spawn(|| runs(&one.build(TEXT), &one));
            (runs(&other.build(TEXT), &other), first.join().unwrap())
        });
        assert_eq!((one, other), (1, 1));
    });
}

#[test]
fn equal_steps_with_other_names_are_done_once() {
    inside(|_, dir| {
        let world = World::new(dir);
        add_base(&world, dir);
        // The ops differ in nothing that counts: proxies are no part of what a step does.
        let (graph, _) = world.graph(TEXT);
        let with_proxy = |proxy: &str| {
            let options = frontend::Options {
                target_platform: Platform::host(),
                build_args: [("http_proxy".to_owned(), proxy.to_owned())].into(),
                ..frontend::Options::default()
            };
            let source = dockerfile::Source::new("Dockerfile", TEXT);
            let build = frontend::convert(source, &options, &world).unwrap();
            Graph::new(&build.definition).unwrap()
        };
        let graphs = [graph, with_proxy("http://127.0.0.1:1"), with_proxy("http://127.0.0.1:2")];
        let all = Graph::several(&graphs);
        let solved = world.solver.solve_all(&all, &Inputs::default(), &world.options, &|_| {});
        let solved = solved.unwrap_or_else(|e| panic!("{}", chain(&e)));
        assert_eq!(solved.len(), 3);
        assert!(solved.iter().all(|one| *one == solved[0]));
        let (_, built) = world.try_build(TEXT);
        assert_eq!(runs(&Built { solved: solved[0].clone(), ..built }, &world), 1);
    });
}
