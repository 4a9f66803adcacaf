FROM base
ARG V=1
COPY <<EOF /x
V is $V, ${V:+set} "and" 'quoted' \$V
EOF

# A file that stands in the Dockerfile.
