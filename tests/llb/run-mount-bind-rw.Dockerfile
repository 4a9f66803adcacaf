FROM base
RUN --mount=type=bind,target=/ctx,rw one
RUN --mount=type=bind,target=/ctx,readonly=false,src=a two

# Files that may be written to.
