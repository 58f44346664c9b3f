"""Settings of the test project: SQLite in memory; a server or a file where the environment names one.

``DJM_TEST_POSTGRESQL`` is the folder of a server's socket, ``DJM_TEST_SQLITE`` the path of a file. With
``DJM_TEST_LOCAL_TIMES``, the name of a time zone, the project stores local times of it (``USE_TZ = False``).
"""

from __future__ import annotations

import os
from typing import Any

LOCAL_TIMES = "DJM_TEST_LOCAL_TIMES"

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = LOCAL_TIMES not in os.environ
TIME_ZONE = os.environ.get(LOCAL_TIMES, "UTC")
LANGUAGE_CODE = "en-us"
ROOT_URLCONF = "djmessenger.urls"
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "djmessenger",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def postgresql_database(socket: str) -> dict[str, Any]:
    """Settings of the server whose socket is in this folder."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": "postgres",
        "HOST": socket,
        "TEST": {"NAME": "test_djmessenger"},
    }


def sqlite_file_database(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Settings of a file, as the docs name them for production."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }


if "DJM_TEST_POSTGRESQL" in os.environ:
    DATABASES = {"default": postgresql_database(os.environ["DJM_TEST_POSTGRESQL"])}
elif "DJM_TEST_SQLITE" in os.environ:
    DATABASES = {"default": sqlite_file_database(os.environ["DJM_TEST_SQLITE"])}
else:
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

DJM_ENDPOINT = "messenger"
DJM_PAGE_ACCESS_TOKEN = "made-up-page-token"
DJM_APP_SECRET = "0123456789abcdef0123456789abcdef"
DJM_ENDPOINT_VERIFY_TOKEN = "made-up-verify-token"
DJM_DISPATCHER = "inline"
