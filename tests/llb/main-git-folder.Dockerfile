FROM base
COPY f /x

# A folder of it.
# build: {git}/repo.git#main:sub
