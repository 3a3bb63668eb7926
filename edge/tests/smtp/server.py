"""A mail server for tests: takes what comes, and writes down for each message what a mail program would show of it.

    server.py FOLDER [USER PASSWORD]

It listens on 127.0.0.1 and writes its port to FOLDER/port. With a user it has FOLDER/server.pem and server.key for STARTTLS,
without which it takes neither a login nor a message. A message becomes FOLDER/N.json, and its picture FOLDER/N.jpg.
"""

import asyncio
import email
import email.policy
import json
import os
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

folder = pathlib.Path(sys.argv[1])
login = sys.argv[2:]


def write(name, content):
    """Whole or not at all: the test looks for files by their names."""
    part = folder / f"{name}.part"
    part.write_bytes(content)
    os.rename(part, folder / name)


class Handler:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        pictures = [part for part in message.iter_attachments() if part.get_content_type() == "image/jpeg"]
        if pictures:
            write(f"{self.count}.jpg", pictures[0].get_content())
        seen = {
            "tls": session.ssl is not None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "sender": envelope.mail_from,
            "receivers": envelope.rcpt_tos,
            "subject": message["Subject"],
            "id": message["Message-ID"],
            "thread": message["References"],
            "text": message.get_body().get_content(),
            "pictures": [part.get_filename() for part in pictures],
        }
        write(f"{self.count}.json", json.dumps(seen).encode())
        self.count += 1
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    known = isinstance(data, LoginPassword) and [data.login.decode(), data.password.decode()] == login
    return AuthResult(success=known, handled=False, auth_data=data)


async def serve():
    handler = Handler()
    options = {"hostname": "localhost"}
    if login:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        options |= {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": authenticate}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, loop=loop, **options), "127.0.0.1", 0)
    write("port", str(server.sockets[0].getsockname()[1]).encode())
    await server.serve_forever()


asyncio.run(serve())
