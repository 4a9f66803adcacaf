FROM base
COPY --from=other a x /1/
COPY --from=other x /2/
RUN --mount=from=other,source=a,target=/m one

# What is asked of it.
# build: --build-context other={folder}
