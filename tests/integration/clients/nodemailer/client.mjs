// Sends with nodemailer as test_senders.py says; prints what it was answered as JSON.
import { createTransport } from 'nodemailer';
import { readFileSync } from 'node:fs';

const [scenario, port, ca, user, secret] = process.argv.slice(2);
const attachment = { filename: 'Grüße.bin', content: Buffer.from(Array.from({ length: 256 }, (_, n) => n)) };

const transports = {
    tls: { secure: true, auth: { user, pass: secret } },
    starttls: { secure: false, requireTLS: true, auth: { user, pass: secret }, authMethod: 'LOGIN' },
    token: { secure: true, auth: { type: 'OAuth2', user, accessToken: secret } },
    pool: { secure: true, pool: true, maxConnections: 2, auth: { user, pass: secret } },
};

const transport = createTransport({
    host: 'localhost',
    port: Number(port),
    tls: { ca: readFileSync(ca) },
    ...transports[scenario],
});
const count = scenario === 'pool' ? 20 : 1;
const sent = await Promise.allSettled(
    Array.from({ length: count }, (_, number) =>
        transport.sendMail({
            from: `"Jürgen, von nebenan" <${user}>`,
            to: ['Bob <bob@example.test>'],
            bcc: 'alice@example.test',
            subject: `Grüße aus Österreich ${number}`,
            text: 'Grün\n.\nFrom here on\n' + 'x'.repeat(2000) + '\n',
            html: '<p>Grün</p>',
            attachments: [attachment],
            dsn: { id: `envelope-${number}`, return: 'headers', notify: ['failure', 'delay'], recipient: user },
        }),
    ),
);
transport.close();
process.stdout.write(
    JSON.stringify(
        sent.map(({ value, reason }) =>
            value
                ? { accepted: value.accepted, rejected: value.rejected, response: value.response }
                : { error: reason.message, code: reason.responseCode },
        ),
    ) + '\n',
);
