"""Templates as blocks: every template of the package is used elsewhere; here are the rules of their form."""

from jinja2 import DictLoader

from analysis.document.model import Bullets, Code, Paragraph, Section
from analysis.document.template import ENVIRONMENT, blocks_of, one_line
