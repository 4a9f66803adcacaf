FROM base
COPY sub /x

# With its .git.
# build: {git}/repo.git --build-arg BUILDKIT_CONTEXT_KEEP_GIT_DIR=1
