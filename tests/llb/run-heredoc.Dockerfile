FROM base
RUN <<EOF
one
two $X
EOF

# A script.
