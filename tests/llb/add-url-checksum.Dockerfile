FROM base
ADD --checksum={checksum} {web}/archive.tar /x/

# With a checksum.
