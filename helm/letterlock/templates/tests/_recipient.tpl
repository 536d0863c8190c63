{{/* The listener that `helm test` sends to, as JSON under `listener`; none: an empty dict. */}}
{{- define "letterlock.testListener" -}}
{{- $found := dict -}}
{{- range .Values.listeners -}}
{{- if or (eq .name $.Values.test.listener) (and (not $.Values.test.listener) (not $found)) -}}
{{- $found = . -}}
{{- end -}}
{{- end -}}
{{- if and $.Values.test.listener (not $found) -}}
{{- fail (printf "test.listener: there is no %s among listeners" $.Values.test.listener) -}}
{{- end -}}
{{- dict "listener" $found | toJson -}}
{{- end -}}

{{/* Whom it writes to: what is said, else the first recipient that the listener takes mail for; empty: nobody is known. */}}
{{- define "letterlock.testRecipient" -}}
{{- $found := .Values.test.recipient -}}
{{- $listener := (include "letterlock.testListener" . | fromJson).listener -}}
{{- if $listener -}}
{{- range default list $listener.spec.recipients -}}
{{- if eq .action "Accept" -}}
{{- range .match -}}
{{- if and (not $found) (not (hasPrefix "." .)) (not (hasSuffix "@" .)) -}}
{{- $found = ternary . (printf "postmaster@%s" .) (contains "@" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found -}}
{{- end -}}

{{/* `smtps`, `starttls` where at least one policy offers it, else `none`. */}}
{{- define "letterlock.testTLS" -}}
{{- $spec := (include "letterlock.testListener" . | fromJson).listener.spec -}}
{{- $mode := dig "defaultPolicy" "tls" "mode" "No" $spec -}}
{{- if eq (default "SMTP" $spec.protocol) "SMTPS" -}}
smtps
{{- else if ne $mode "No" -}}
starttls
{{- else -}}
offered
{{- end -}}
{{- end -}}
