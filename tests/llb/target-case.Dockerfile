FROM base AS One
RUN one
FROM scratch
COPY a /

# A target in other letters.
# build: --target ONE
