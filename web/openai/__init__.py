"""The OpenAI Videos dialect under /v1: the same farm, in the words that client speaks.

docs/openai.md says what each call does here and where it differs. Everything that starts work
goes through `web.api.submission`, as the native API does.
"""
