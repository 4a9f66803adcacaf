FROM base AS one
ONBUILD COPY <<EOF /x
hello
EOF
FROM one
RUN two

# With a here-document.
