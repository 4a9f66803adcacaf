FROM base
COPY . /

# A .dockerignore.
