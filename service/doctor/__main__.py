import argparse
import sys

from service.doctor.command import bare_settings, examine, options

parser = argparse.ArgumentParser("service.doctor", description="See whether this machine serves well.")
options(parser)
try:
    from service.settings import read_settings
except ModuleNotFoundError:
    settings = bare_settings()
else:
    settings = read_settings()
sys.exit(examine(parser.parse_args(), settings))
