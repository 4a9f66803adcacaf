FROM base
ARG T=/t I=id
RUN --mount=type=cache,target=$T,id=${I} --mount=type=bind,source=$A,target=/x one

# Variables in mounts.
