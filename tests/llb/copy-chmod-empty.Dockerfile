FROM base
ARG MODE
COPY --chmod=$MODE --chown=$MODE a /1

# A mode that turns out empty is none.
