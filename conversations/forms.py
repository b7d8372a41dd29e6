"""What the pages' forms send."""

from __future__ import annotations

from threading import Lock
from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.validators import MaxLengthValidator
from django.http import HttpRequest

from conversations import runs, tokens


class MessageForm(forms.Form):
    text = forms.CharField(strip=False, required=False)
    #: Made by the page for each message: a message sent twice is stored once.
    client_id = forms.UUIDField(required=False)

    def clean_text(self) -> str:
        """Browsers send line breaks as CRLF and count them as one character."""
        text: str = self.cleaned_data["text"].replace("\r\n", "\n")
        try:
            return runs.check_request("text", text)
        except runs.InvalidRequest as error:
            raise forms.ValidationError(error.message) from error


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(choices=[(name, name) for name in ("system", "light", "dark")])


#: Held while an account's password is tried. A try is counted when it has failed: without it many at once would all go
#: as the first. For one process: each more allows a few tries more.
_TRYING = tuple(Lock() for _ in range(64))


def _trying(username: str) -> Lock:
    return _TRYING[hash(username.casefold()) % len(_TRYING)]


class SignInForm(AuthenticationForm):
    error_messages = {  # noqa: RUF012  as Django's form has it
        # The same for an unknown name, a wrong password and a closed account.
        "invalid_login": "Username or password is wrong. Upper and lower case matter in both.",
        "inactive": "Username or password is wrong. Upper and lower case matter in both.",
    }

    def __init__(self, request: HttpRequest | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        username, longest = self.fields["username"], self.username_field.max_length or 0
        username.error_messages["required"] = "Enter your username."
        # Django's form tells the browser alone.
        username.validators.append(MaxLengthValidator(longest, f"A username has at most {longest} characters."))
        self.fields["password"].error_messages["required"] = "Enter your password."

    def clean(self) -> dict[str, Any]:
        with _trying(self.cleaned_data.get("username") or ""):
            return super().clean()


class TokenForm(forms.Form):
    #: Made by the page for each token: a form sent twice makes one.
    id = forms.UUIDField()
    label = forms.CharField(error_messages={"required": "Say what the token is for."})
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=3650,
        error_messages=dict.fromkeys(
            ("invalid", "min_value", "max_value"), "Write a number of days from 1 to 3650, or nothing for no end."
        ),
    )

    def clean_label(self) -> str:
        try:
            return tokens.check_label(self.cleaned_data["label"])
        except tokens.InvalidLabel as error:
            raise forms.ValidationError(str(error)) from error


class PasswordForm(PasswordChangeForm):
    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        """Asked as at sign-in: so guessing here is throttled too."""
        old: str = self.cleaned_data["old_password"]
        name = self.user.get_username()
        with _trying(name):
            user = authenticate(self.request, username=name, password=old)
        if user is None:
            raise forms.ValidationError("This is not your current password.")
        return old


class SignOutEverywhereForm(forms.Form):
    revoke_tokens = forms.BooleanField(required=False)
