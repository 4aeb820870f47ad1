# Where the guest looks for what Trove injects; Nova's config drive is what Trove asks for by default.
export DIB_CLOUD_INIT_DATASOURCES=${DIB_CLOUD_INIT_DATASOURCES:-"ConfigDrive, NoCloud"}
export DIB_TROVE_GUESTAGENT_PACKAGE=${DIB_TROVE_GUESTAGENT_PACKAGE:-}
# The builder's own scripts in the image; its default for Debian is 2, which Debian has not had since 11.
export DIB_PYTHON_VERSION=${DIB_PYTHON_VERSION:-3}
