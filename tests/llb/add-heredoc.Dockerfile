FROM base
ADD <<EOF /x
hello
EOF

# A file that stands in the Dockerfile.
