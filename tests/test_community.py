"""The files that a repository's host reads: the citation, the forms for issues, the pages on security and conduct."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tutelage import __version__

ROOT = Path(__file__).parent.parent
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))

REQUIRED = {"authors", "cff-version", "message", "title"}
OPTIONAL = {
    "abstract",
    "commit",
    "contact",
    "date-released",
    "doi",
    "identifiers",
    "keywords",
    "license",
    "license-url",
    "preferred-citation",
}
OPTIONAL |= {"references", "repository", "repository-artifact", "repository-code", "type", "url", "version"}
PERSON = {
    "address",
    "affiliation",
    "alias",
    "city",
    "country",
    "email",
    "family-names",
    "fax",
    "given-names",
    "name-particle",
    "name-suffix",
}
PERSON |= {"orcid", "post-code", "region", "tel", "website"}
ENTITY = {
    "address",
    "alias",
    "city",
    "country",
    "date-end",
    "date-start",
    "email",
    "fax",
    "location",
    "name",
    "orcid",
    "post-code",
    "region",
}
ENTITY |= {"tel", "website"}


def test_the_citation_has_the_fields_of_the_format():
    """Citation File Format 1.2.0; hosts show nothing where a field is unknown or missing."""
    read = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert REQUIRED <= set(read) <= REQUIRED | OPTIONAL
    assert read["cff-version"] == "1.2.0"
    assert read["type"] in ("software", "dataset")
    assert all(isinstance(read[key], str) and read[key] for key in ("message", "title", "abstract", "version", "license"))
    assert read["authors"]
    for author in read["authors"]:
        assert set(author) <= (ENTITY if "name" in author else PERSON)
    assert len(set(read["keywords"])) == len(read["keywords"]) > 0


def test_the_citation_agrees_with_the_package():
    """A version that was forgotten is cited for years."""
    read = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert read["version"] == project["version"] == __version__
    assert read["license"] == project["license"]


@pytest.mark.parametrize("form", [f.name for f in FORMS if f.name != "config.yml"])
def test_a_form_for_issues_is_one(form):
    """A form that is damaged is silently not offered."""
    read = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / form).read_text())
    assert (
        {"name", "description", "body"} <= set(read) <= {"name", "description", "title", "labels", "assignees", "projects", "type", "body"}
    )
    asked = [each for each in read["body"] if each["type"] != "markdown"]
    assert asked
    ids = [each["id"] for each in asked]
    assert len(set(ids)) == len(ids)
    for each in read["body"]:
        assert set(each) <= {"type", "id", "attributes", "validations"}
        assert each["type"] in ("markdown", "input", "textarea", "dropdown", "checkboxes")
        assert each["attributes"]["value" if each["type"] == "markdown" else "label"]
        if each["type"] in ("dropdown", "checkboxes"):
            assert each["attributes"]["options"]


def test_what_the_pages_point_to_is_there():
    """A page on security that names a file which was moved is not believed."""
    for page in ("SECURITY.md", "CODE_OF_CONDUCT.md", ".github/pull_request_template.md", "examples/README.md"):
        text = (ROOT / page).read_text()
        for file in re.findall(r"\b(?:tests/[\w/]+\.py|[A-Z]{4,}\.md|docs/\w+\.md)\b", text):
            assert (ROOT / file).is_file(), (page, file)
        assert "@" not in re.sub(r"`[^`]*`", "", text), page  # reports go through the host, not to an address
