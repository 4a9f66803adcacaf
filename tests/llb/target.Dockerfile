FROM base AS one
RUN one
FROM one AS two
RUN two
FROM scratch
COPY --from=two /bin /

# A stage in the middle is built.
# build: --target two
