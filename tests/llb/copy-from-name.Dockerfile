FROM base AS Tools
RUN x
FROM scratch
COPY --from=TOOLS /bin/sh /sh

# From a stage by name, in any letters.
