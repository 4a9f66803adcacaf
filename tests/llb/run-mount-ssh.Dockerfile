FROM base
RUN --mount=type=ssh one
RUN --mount=type=ssh,id=x,target=/agent two
RUN --mount=type=ssh --mount=type=ssh,id=y three

# An agent.
