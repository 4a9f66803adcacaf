FROM base
COPY sub /x

# A repository as the context.
# build: {git}/repo.git#main
