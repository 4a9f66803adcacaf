FROM base
COPY --from=other sub /x

# A repository.
# build: --build-context other={git}/repo.git#main
