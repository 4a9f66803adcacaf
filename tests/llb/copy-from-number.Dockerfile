FROM base
RUN x
FROM scratch
COPY --from=0 /bin/sh /sh

# From a stage by number.
