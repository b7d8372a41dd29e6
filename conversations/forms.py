"""What the pages' forms send."""

from __future__ import annotations

from django import forms

from conversations import runs


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
