FROM base
COPY a /
RUN --mount=type=tmpfs,target=/t one
RUN --mount=type=tmpfs,target=/t,size=10m two

# A directory in memory.
