FROM base
RUN <<-EOF
	one
	EOF

# A script without its tabs.
