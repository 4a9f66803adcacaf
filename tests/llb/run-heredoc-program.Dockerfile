FROM base
RUN <<EOF
#!/bin/sh
echo $X
EOF

# A script that says what it is for.
