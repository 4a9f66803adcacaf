FROM base
RUN cat <<EOF >/x
one
EOF

# A here-document that the shell reads.
