"""The words of page scripts in the reader's language: one file a language, kept by the browser.

Pages in English load none, because scripts carry their English themselves (static/js/language.js).
"""

import hashlib
import json
from functools import cache
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import translation
from django.views.decorators.http import require_GET
from django.views.i18n import JavaScriptCatalog

from fleet import phrases

KEEP_FOR_EVER = "public, max-age=31536000, immutable"
# Of sha256, in the address: another catalog is another file.
VERSION_CHARACTERS = 16


@cache
def catalog_bytes(language: str) -> bytes:
    """Return the script that holds Django's catalog, and the phrases, of one language."""
    request = HttpRequest()
    request.method = "GET"
    with translation.override(language):
        # `sop_web` has no catalog of its own, so this is LOCALE_PATHS without the admin's.
        made: bytes = JavaScriptCatalog.as_view(packages=["sop_web"])(request).content
        table = json.dumps(phrases.table(), ensure_ascii=False)
    return made + f"\nglobalThis.sopPhrases = {table};\n".encode()


@cache
def version_of(language: str) -> str:
    """Return what changes whenever the catalog of a language does."""
    return hashlib.sha256(catalog_bytes(language)).hexdigest()[:VERSION_CHARACTERS]


def page_words(request: HttpRequest) -> dict[str, Any]:
    """Tell templates where the catalog of this page's language is; nowhere for English."""
    language = translation.get_language() or settings.LANGUAGE_CODE
    if language == settings.LANGUAGE_CODE:
        return {"words_url": ""}
    return {"words_url": reverse("words", args=(language, version_of(language)))}


@require_GET
def catalog(request: HttpRequest, language: str, version: str) -> HttpResponse:
    """Answer with the catalog. Whatever version is asked for, the newest is sent.

    An old page may ask for one that is gone; only the right one may be kept.
    """
    if language not in dict(settings.LANGUAGES):
        raise Http404(f"there are no words in {language}")
    answer = HttpResponse(catalog_bytes(language), content_type="text/javascript; charset=utf-8")
    answer["Cache-Control"] = KEEP_FOR_EVER if version == version_of(language) else "no-store"
    return answer
