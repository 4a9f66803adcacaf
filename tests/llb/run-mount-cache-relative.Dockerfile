FROM base
WORKDIR /w
RUN --mount=type=cache,target=c one

# In the working directory.
