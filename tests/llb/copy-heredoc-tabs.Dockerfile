FROM base
COPY <<-EOF /x
	one
		two
	EOF

# Tabs are taken away.
