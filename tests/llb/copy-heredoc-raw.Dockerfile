FROM base
COPY <<'EOF' /x
$V
EOF

# A quoted word: variables are text.
