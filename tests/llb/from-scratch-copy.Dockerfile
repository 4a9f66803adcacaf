FROM scratch
COPY a /

# Nothing, and a file.
